"""Low-rank adapters (LoRA, Hu et al. 2021): layers, the factors of a state dict, and files.

`layer` is a linear layer with an adapter, and starts none of the rest; `convolution` trains corrections of
convolutions; `factors` takes adapters apart from the weights they correct and merges them; `file` reads an adapter for
a network that is loaded already.
"""
