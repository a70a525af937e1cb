"""The networks: functions of tensors, independent of files, devices and user interfaces."""
