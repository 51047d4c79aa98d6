"""detrojan: finds, explains, removes and stops backdoors in neural networks."""
