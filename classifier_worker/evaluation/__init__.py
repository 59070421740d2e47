"""`docfleet evaluate`: how good answers are on labelled documents. No service imports it."""
