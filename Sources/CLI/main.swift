print("switchover")
