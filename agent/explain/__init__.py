"""Why a window was judged anomalous: what is unusual, in Hz and dB, and what healthy is nearest."""
