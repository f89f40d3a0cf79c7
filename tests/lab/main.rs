//! The lab, end to end on small data, and against PyTorch.
