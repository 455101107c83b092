"""The paper's experiments: what makes its table and its figures anew."""
