"""Log files into Tocsin: `tocsin send`."""
