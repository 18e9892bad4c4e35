"""What saving and restoring a guest means, by its type: the contract (ops), the tables, a folder for each kind."""
