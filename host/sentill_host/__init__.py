"""Host side of Sentill: flash, deploy, watch, train and audit terminal nodes from a PC."""
