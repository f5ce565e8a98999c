"""Commands on their way from the queue in Redis to the lock and to their outcome."""
