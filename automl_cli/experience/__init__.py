"""What past runs measured: kept in SQL, shipped as a prior, recalled for tables that are like a past one."""
