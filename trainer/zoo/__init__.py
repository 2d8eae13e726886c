"""Published encoders, rebuilt: architectures, checkpoints and poolings.

Each file rebuilds one published encoder and reads its published files; what they share is in
`backbone` (the interface), `vit` (transformer blocks), `fbank` (front ends), `pooling` (hidden
states to one vector) and `checkpoints` (reading files that come from elsewhere).
"""
