"""bnrecal where people train: in place of torch's update_bn, in Lightning, on averaged checkpoints."""
