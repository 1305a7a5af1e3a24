"""What Redis remembers for speed's sake; nothing is wrong when it forgets or is away."""
