"""The database: Optuna's own tables, unmodified, where trials live once, and ours beside them; and the model files."""
