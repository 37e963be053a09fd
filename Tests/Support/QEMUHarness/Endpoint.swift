import Glibc

/// Where a socket listens on this machine.
public enum Endpoint: Sendable, Hashable {
  /// The path of a unix socket.
  case unix(String)
  /// A port of 127.0.0.1; 0 lets the system choose one when listening.
  case tcp(UInt16)

  /// The endpoint as `migrate` and `-incoming` want it.
  public var migrationAddress: String {
    switch self {
    case .unix(let path): "unix:\(path)"
    case .tcp(let port): "tcp:127.0.0.1:\(port)"
    }
  }

  /// The endpoint as a `SocketAddress` of QMP, for `nbd-server-start` and the `nbd` block driver.
  public var socketAddress: JSONValue {
    switch self {
    case .unix(let path): ["type": "unix", "path": .string(path)]
    case .tcp(let port): ["type": "inet", "host": "127.0.0.1", "port": .string("\(port)")]
    }
  }

  /// The endpoint as a `SocketAddressLegacy` of QMP, which `nbd-server-start` wants.
  public var legacySocketAddress: JSONValue {
    switch self {
    case .unix(let path): ["type": "unix", "data": ["path": .string(path)]]
    case .tcp(let port):
      ["type": "inet", "data": ["host": "127.0.0.1", "port": .string("\(port)")]]
    }
  }

  /// Opens a socket and connects it; -1 with errno set if that fails.
  public func connect() -> Int32 {
    let descriptor = makeSocket()
    guard descriptor >= 0 else { return -1 }
    guard withAddress({ Glibc.connect(descriptor, $0, $1) }) == 0 else {
      let code = errno
      close(descriptor)
      errno = code
      return -1
    }
    return descriptor
  }

  /// Opens a listening socket; -1 with errno set if that fails.
  public func listen() -> Int32 {
    let descriptor = makeSocket()
    guard descriptor >= 0 else { return -1 }
    guard withAddress({ Glibc.bind(descriptor, $0, $1) }) == 0, Glibc.listen(descriptor, 16) == 0
    else {
      let code = errno
      close(descriptor)
      errno = code
      return -1
    }
    return descriptor
  }

  /// Makes a connected TCP socket send at once what it is given.
  func makePrompt(_ descriptor: Int32) {
    guard case .tcp = self else { return }
    var on: Int32 = 1
    setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, 4)
  }

  /// The endpoint with the port that the system has chosen for a listening socket.
  func withPort(of descriptor: Int32) -> Endpoint {
    guard case .tcp = self else { return self }
    var address = sockaddr_in()
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    _ = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
    }
    return .tcp(UInt16(bigEndian: address.sin_port))
  }

  private func makeSocket() -> Int32 {
    let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
    switch self {
    case .unix: return socket(AF_UNIX, kind, 0)
    case .tcp: return socket(AF_INET, kind, 0)
    }
  }

  private func withAddress(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
    switch self {
    case .unix(let path):
      return withUnixAddress(path, body)
    case .tcp(let port):
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_port = port.bigEndian
      address.sin_addr.s_addr = INADDR_LOOPBACK.bigEndian
      return withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
      }
    }
  }
}

/// Calls a socket function with the address of a unix socket; -1 and ENAMETOOLONG if it is too long.
private func withUnixAddress(
  _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
) -> Int32 {
  var address = sockaddr_un()
  address.sun_family = sa_family_t(AF_UNIX)
  let bytes = Array(path.utf8)
  guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else {
    errno = ENAMETOOLONG
    return -1
  }
  withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
  return withUnsafePointer(to: &address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
    }
  }
}
