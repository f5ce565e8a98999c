"""TCP and UDP transports: pass frames to a handler, and bytes back to the locks."""
