"""Training of small models: tokenizer, teacher, one-step student."""
