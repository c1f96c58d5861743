"""What a model is on disk: weights in safetensors, and a JSON page about their problem."""
