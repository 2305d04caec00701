"""Contrastive training data and small fine-tuned models for poetry."""
