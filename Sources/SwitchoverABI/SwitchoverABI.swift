// SwitchoverABI
