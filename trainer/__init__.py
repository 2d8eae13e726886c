"""The workstation side of auscult: read recordings of a healthy machine and learn its sound."""
