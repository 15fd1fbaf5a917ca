"""What runs in a worker, and in the nursery that forks it: with the standard library, torch and triton alone."""
