"""Redis: address, connection, keys, the commit script and its committer, the embedded server."""
