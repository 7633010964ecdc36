"""What convert is made of: the model that names are looked up in, the plan, and adapters in other forms."""
