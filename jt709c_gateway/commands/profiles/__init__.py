"""Order profiles shipped with the gateway, one TOML file per dialect."""
