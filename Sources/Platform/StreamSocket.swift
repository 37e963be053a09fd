import CPlatform
import Glibc

/// Why a connection could not be made, as far as it tells the caller what to do next.
public enum ConnectionRefusal: Equatable, Sendable {
  /// The listener lives and its queue is full: somebody else is waiting; try again later.
  case queueFull
  /// Nobody listens.
  case refused
  /// There is no such socket.
  case missing
  /// The caller may not.
  case denied
  /// Anything else.
  case other
}

extension SystemError {
  /// A connection that was inherited once and is gone.
  public static let notConnected = SystemError(errno: ENOTCONN, call: .connect)

  /// A connection that was not made in time.
  public static let timedOut = SystemError(errno: ETIMEDOUT, call: .connect)

  /// What the error means for a connection.
  public var refusal: ConnectionRefusal {
    switch errno {
    case EAGAIN: .queueFull
    case ECONNREFUSED: .refused
    case ENOENT, ENOTDIR: .missing
    case EACCES, EPERM: .denied
    default: .other
    }
  }
}

/// What a receive or send moved.
public enum Transfer: Equatable, Sendable {
  /// So many bytes.
  case moved(Int)
  /// Nothing now; wait until the socket is ready.
  case wouldBlock
  /// The peer will send nothing more.
  case endOfStream
}

/// A connection that is made or being made.
public struct Connection {
  public let descriptor: Descriptor
  /// False: wait until it is writable, then call `finishConnecting`.
  public let isEstablished: Bool
}

/// What one does with stream sockets; nothing here ever blocks or raises a signal.
public enum StreamSocket {
  /// Begins to connect.
  ///
  /// A unix connection is made or refused at once; `SystemError.refusal` tells the cases apart.
  public static func connect(to address: SocketAddress) throws(SystemError) -> Connection {
    let descriptor = try make(family: address.family)
    if address.isTCP { try disableDelay(descriptor) }
    let value = result(of: .connect) {
      address.withPointer { Glibc.connect(descriptor.number, $0, $1) }
    }
    if value == 0 { return Connection(descriptor: descriptor, isEstablished: true) }
    if value == -Int(EINPROGRESS) {
      return Connection(descriptor: descriptor, isEstablished: false)
    }
    throw SystemError(errno: Int32(-value), call: .connect)
  }

  /// Two ends of one connection.
  public static func pair() throws(SystemError) -> (Descriptor, Descriptor) {
    var ends: [Int32] = [-1, -1]
    let kind =
      Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
    try checked(.socketPair) { socketpair(AF_UNIX, kind, 0, &ends) }
    return (Descriptor(owning: ends[0]), Descriptor(owning: ends[1]))
  }

  /// Tells whether a connection that became writable was made.
  public static func finishConnecting(_ descriptor: Descriptor) throws(SystemError) {
    let code = try option(SO_ERROR, of: descriptor)
    if code != 0 { throw SystemError(errno: code, call: .connect) }
  }

  /// Uses a connected stream socket of the host program.
  ///
  /// Works on a duplicate: the host program's own descriptor stays open and stays its to close, and
  /// the flags that the two share stay as they are, since every transfer here asks by itself not to
  /// block. `ENOTSOCK` or `EPROTOTYPE` for anything else than a stream socket.
  public static func adopt(_ number: Int32) throws(SystemError) -> Descriptor {
    let descriptor = try Descriptor.duplicate(number)
    guard try option(SO_TYPE, of: descriptor) == Int32(SOCK_STREAM.rawValue) else {
      throw SystemError(errno: EPROTOTYPE, call: .getSocketOption)
    }
    return descriptor
  }

  /// Receives what is there, up to the size of `buffer`.
  public static func receive(
    _ descriptor: Descriptor, into buffer: UnsafeMutableRawBufferPointer
  ) throws(SystemError) -> Transfer {
    if buffer.isEmpty { return .moved(0) }
    let value = result(of: .receive) {
      recv(descriptor.number, buffer.baseAddress, buffer.count, Int32(MSG_DONTWAIT))
    }
    if value == 0 { return .endOfStream }
    return try transfer(value, .receive)
  }

  /// Sends as much of `bytes` as the socket takes.
  public static func send(
    _ bytes: UnsafeRawBufferPointer, to descriptor: Descriptor
  ) throws(SystemError) -> Transfer {
    if bytes.isEmpty { return .moved(0) }
    let flags = Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT)
    let value = result(of: .send) {
      Glibc.send(descriptor.number, bytes.baseAddress, bytes.count, flags)
    }
    return try transfer(value, .send)
  }

  /// Sends as much of `bytes` as the socket takes; a copy of `passed` travels with the first byte.
  ///
  /// `EINVAL` without a byte to travel with.
  public static func send(
    _ bytes: UnsafeRawBufferPointer, passing passed: Int32, to descriptor: Descriptor
  ) throws(SystemError) -> Transfer {
    guard let base = bytes.baseAddress, !bytes.isEmpty else {
      throw SystemError(errno: EINVAL, call: .send)
    }
    let value = result(of: .send) {
      swp_send_descriptor(descriptor.number, base, bytes.count, passed)
    }
    return try transfer(value, .send)
  }

  /// Ends a connection that we made, also where a forked child still holds a copy of it.
  ///
  /// Without this the peer would see no end before that child closes its copy too.
  public static func shutDown(_ descriptor: Descriptor) {
    guard descriptor.isOpen else { return }
    // A connection that has ended by itself answers ENOTCONN: nothing is left to do.
    _ = shutdown(descriptor.number, Int32(SHUT_RDWR))
  }

  /// Tells the peer that nothing more will be sent; receiving goes on.
  public static func endSending(_ descriptor: Descriptor) {
    guard descriptor.isOpen else { return }
    _ = shutdown(descriptor.number, Int32(SHUT_WR))
  }

  static func make(family: Int32) throws(SystemError) -> Descriptor {
    let kind =
      Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
    return try .made(by: .socket) { socket(family, kind, 0) }
  }

  private static func disableDelay(_ descriptor: Descriptor) throws(SystemError) {
    var one: Int32 = 1
    try checked(.setSocketOption) {
      setsockopt(descriptor.number, Int32(IPPROTO_TCP), TCP_NODELAY, &one, 4)
    }
  }

  private static func option(
    _ name: Int32, of descriptor: Descriptor
  ) throws(SystemError) -> Int32 {
    var value: Int32 = 0
    var length = socklen_t(4)
    try checked(.getSocketOption) {
      getsockopt(descriptor.number, SOL_SOCKET, name, &value, &length)
    }
    return value
  }

  private static func transfer(
    _ value: Int, _ call: SystemCall
  ) throws(SystemError) -> Transfer {
    if value >= 0 { return .moved(value) }
    if value == -Int(EAGAIN) { return .wouldBlock }
    throw SystemError(errno: Int32(-value), call: call)
  }
}
