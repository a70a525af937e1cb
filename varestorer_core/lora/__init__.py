"""Low-rank adapters (LoRA, Hu et al. 2021): layers, the factors of a state dict, and files.

`layer` is a linear layer with an adapter and imports none of the rest; `convolution` trains corrections of
convolutions; `factors` separates adapters from the weights they correct and merges them; `file` reads an adapter for a
loaded network.
"""
