"""How fast would it be? Dry launches compiled for the target (driver, compiling), eager PyTorch counted operator by
operator (aten, operators, traffic, reductions), and the roofline that turns counts into time (model)."""
