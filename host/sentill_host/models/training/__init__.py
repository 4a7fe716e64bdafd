"""From labelled transactions to a model file: features, walk-forward evaluation, training, quantisation, model card."""
