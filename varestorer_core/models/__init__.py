"""Networks and their mathematics: tensors in, tensors out; no files, no devices, no user."""
