"""The built-in rules: plain functions of a `StepView` and a `History`, registered by name."""
