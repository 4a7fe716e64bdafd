"""Risk models: trees, model files, rules, training; and the traffic to train and try them on."""
