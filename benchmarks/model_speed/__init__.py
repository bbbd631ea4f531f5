"""What benchmarks/encoder_speed.py is made of."""
