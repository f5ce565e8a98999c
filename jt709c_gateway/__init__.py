"""Gateway for fleets of Jointech JT709C smart locks: TCP and UDP in, Redis out, commands back."""

__version__ = "0.1.0"
