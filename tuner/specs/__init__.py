"""What a user may say: typed, frozen, unknown fields refused. The same class is request body, JSON column and engine input."""
