"""What quantization did to a model, and which part of it is to blame."""
