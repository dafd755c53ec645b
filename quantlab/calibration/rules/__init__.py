"""The range rules, one a file; each enters itself into `quantlab.calibration.calibrators`."""
