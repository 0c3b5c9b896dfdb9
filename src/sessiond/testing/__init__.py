"""For users' tests: store contract, scripted peers, a clock turned by hand, a simulated gateway; no pytest inside."""
