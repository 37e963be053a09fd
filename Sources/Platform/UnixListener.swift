import CPlatform
import Glibc

/// A listening unix socket in a private directory.
public final class UnixListener {
  /// What to watch for readability.
  public let descriptor: Descriptor
  /// Where clients connect to.
  public let path: String

  /// Listens at `name` in `directory`, whose 0700 keeps other users out whatever the umask is.
  ///
  /// - Parameter backlog: connections that may wait to be accepted.
  public init(
    in directory: PrivateDirectory, name: String, backlog: Int32 = 16
  ) throws(SystemError) {
    path = try directory.socketPath(name)
    let address = try SocketAddress(unixPath: path)
    descriptor = try StreamSocket.make(family: AF_UNIX)
    try checked(.bind) {
      address.withPointer { Glibc.bind(descriptor.number, $0, $1) }
    }
    try checked(.listen) { Glibc.listen(descriptor.number, backlog) }
  }

  /// The next waiting connection, or nil when none waits.
  ///
  /// A client that gave up meanwhile counts as none. `EMFILE` and its like are thrown: the client
  /// keeps waiting, so the caller should pause before it tries again.
  public func accept() throws(SystemError) -> AcceptedConnection? {
    let value = result(of: .accept) { swp_accept(descriptor.number) }
    if value == -Int(EAGAIN) || value == -Int(ECONNABORTED) { return nil }
    if value < 0 { throw SystemError(errno: Int32(-value), call: .accept) }
    let connection = Descriptor(owning: Int32(value))
    return AcceptedConnection(
      descriptor: connection, peer: try PeerCredentials(of: connection))
  }
}

/// A connection that a client made to us.
public struct AcceptedConnection {
  public let descriptor: Descriptor
  /// Who connected.
  public let peer: PeerCredentials
}

/// The process at the other end of a unix socket, as the kernel noted it at `connect` or `listen`.
public struct PeerCredentials: Equatable, Sendable {
  /// 0 when the process cannot be named from here (another pid namespace).
  public let processIdentifier: Int32
  public let userIdentifier: UInt32
  public let groupIdentifier: UInt32

  /// Whether it acts for the user of this process, or for root.
  public var isOurs: Bool { userIdentifier == geteuid() || userIdentifier == 0 }

  /// Asks the kernel; anything but a unix socket yields nobody (user -1).
  public init(of socket: Descriptor) throws(SystemError) {
    var pid: Int32 = 0
    var user: UInt32 = .max
    var group: UInt32 = .max
    try checked(.getSocketOption) {
      swp_peer_credentials(socket.number, &pid, &user, &group)
    }
    processIdentifier = pid
    userIdentifier = user
    groupIdentifier = group
  }
}
