"""What a job does, a stage a file. A stage reads and writes the study's rows and gives its training to an executor."""
