import Platform

// What the C interface needs of the platform; it reaches it through the runtime alone.

public typealias ErrorText = Platform.ErrorText
public typealias SystemError = Platform.SystemError
