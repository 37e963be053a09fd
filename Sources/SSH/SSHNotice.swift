/// A channel of one connection; never used again for another one.
public struct SSHChannelID: Hashable, Sendable {
  let number: UInt64
}

/// Something that has happened on a connection.
public enum SSHNotice: Hashable, Sendable {
  /// The server proved to be the right one.
  case hostKeyVerified(SSHHostKey)
  /// The login worked, by this key; nil if the server wanted none. Channels can be opened.
  case authenticated(SSHKeyAttempt?)
  case channelOpened(SSHChannelID)
  /// The channel did not open and is gone.
  case channelRefused(SSHChannelID, SSHError)
  /// There is something to read, or the end: read until it would block. Said again after that.
  case channelReadable(SSHChannelID)
  /// A write that took less than it was given can go on.
  case channelWritable(SSHChannelID)
  /// The channel is gone: the other side ended it and everything was read, or it was closed here.
  case channelClosed(SSHChannelID, SSHExit?)
  /// The connection is over. What had arrived can still be read; the channels are gone otherwise.
  case failed(SSHError)
  /// The connection was closed as asked.
  case closed
}

/// How a command ended.
public enum SSHExit: Hashable, Sendable {
  /// It exited by itself. A server that says nothing about it counts as 0; OpenSSH always says.
  case status(UInt32)
  /// A signal ended it; the name without `SIG`.
  case signal(String)
}

/// The two streams that a command writes to; other channels have only `output`.
public enum SSHStream: Hashable, Sendable {
  case output, error
}

/// What a read brought.
public enum SSHReadResult: Hashable, Sendable {
  case bytes(Int)
  /// Nothing yet; `channelReadable` will say when.
  case wouldBlock
  /// Nothing more will come on this stream.
  case endOfFile
}

/// A descriptor to wait for.
public struct SSHInterest: Hashable, Sendable {
  public let descriptor: Int32
  public let wantsRead: Bool
  public let wantsWrite: Bool
}
