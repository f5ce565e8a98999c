"""Commands to locks: model, catalogue, profiles and life cycle."""
