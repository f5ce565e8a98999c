"""Redis: addresses, connections, keys, the commit script and its committer, the embedded server."""
