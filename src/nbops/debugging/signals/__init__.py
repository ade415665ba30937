"""What is measured of a training loop, one file per kind of signal; each gives one part of a `StepView`."""
