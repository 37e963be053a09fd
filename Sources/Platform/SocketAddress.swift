import Glibc

/// The address of a stream socket: a unix path or a numeric TCP host and port.
public struct SocketAddress: Sendable {
  /// The longest unix socket path in bytes, set by the kernel's 108 with the closing zero.
  public static let unixPathLimit = 107

  /// Whether a connection to it goes over TCP.
  public var isTCP: Bool { family != AF_UNIX }
  /// Whether it cannot leave this machine.
  public let isLocal: Bool

  let family: Int32
  private let storage: sockaddr_storage
  private let length: socklen_t

  /// A unix socket's path of 1 to 107 bytes; `ENAMETOOLONG` or `EINVAL` otherwise.
  public init(unixPath: String) throws(SystemError) {
    let bytes = Array(unixPath.utf8)
    guard bytes.count <= Self.unixPathLimit else {
      throw SystemError(errno: ENAMETOOLONG, call: .connect)
    }
    guard !bytes.isEmpty, !bytes.contains(0) else {
      throw SystemError(errno: EINVAL, call: .connect)
    }
    var storage = sockaddr_storage()
    withUnsafeMutableBytes(of: &storage) { raw in
      raw.storeBytes(of: sa_family_t(AF_UNIX), as: sa_family_t.self)
      for (index, byte) in bytes.enumerated() { raw[2 + index] = byte }
    }
    self.storage = storage
    family = AF_UNIX
    length = socklen_t(2 + bytes.count + 1)
    isLocal = true
  }

  /// An IPv4 or IPv6 address in numbers (a `%` scope and no brackets); nil for anything else,
  /// names included: those are for `resolve`.
  public init?(numericHost host: String, port: UInt16) {
    let found = try? Self.lookUp(host, port, AI_NUMERICHOST | AI_NUMERICSERV)
    guard let first = found?.first else { return nil }
    self = first
  }

  /// Looks a host name up, in the order in which the addresses should be tried.
  ///
  /// **Blocks** as long as the system's resolver takes. That knows no deadline of ours: its
  /// configuration decides (5 s a server and two attempts unless changed), so a caller with a
  /// deadline passes a numeric host or resolves before it starts.
  public static func resolve(
    host: String, port: UInt16
  ) throws(ResolutionError) -> [SocketAddress] {
    try lookUp(host, port, AI_NUMERICSERV | AI_ADDRCONFIG)
  }

  /// Calls `body` with the address as the kernel wants it.
  func withPointer<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
    withUnsafePointer(to: storage) { pointer in
      // A sockaddr_storage begins with what every sockaddr has.
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) }
    }
  }

  private init?(_ entry: addrinfo) {
    guard let address = entry.ai_addr, entry.ai_addrlen <= MemoryLayout<sockaddr_storage>.size,
      entry.ai_family == AF_INET || entry.ai_family == AF_INET6
    else { return nil }
    var storage = sockaddr_storage()
    withUnsafeMutableBytes(of: &storage) { raw in
      raw.copyMemory(from: UnsafeRawBufferPointer(start: address, count: Int(entry.ai_addrlen)))
    }
    self.storage = storage
    family = entry.ai_family
    length = entry.ai_addrlen
    isLocal = Self.isLoopback(storage, family: entry.ai_family)
  }

  private static func isLoopback(_ storage: sockaddr_storage, family: Int32) -> Bool {
    withUnsafeBytes(of: storage) { raw in
      // The address starts at byte 4 of a sockaddr_in and at byte 8 of a sockaddr_in6.
      if family == AF_INET { return raw[4] == 127 }
      let mapped = raw[8..<18].allSatisfy { $0 == 0 } && raw[18] == 0xFF && raw[19] == 0xFF
      if mapped { return raw[20] == 127 }
      return raw[8..<23].allSatisfy { $0 == 0 } && raw[23] == 1
    }
  }

  private static func lookUp(
    _ host: String, _ port: UInt16, _ flags: Int32
  ) throws(ResolutionError) -> [SocketAddress] {
    var hints = addrinfo()
    hints.ai_flags = flags
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    guard !host.isEmpty, !host.utf8.contains(0) else { throw ResolutionError(EAI_NONAME) }
    let code = getaddrinfo(host, String(port), &hints, &list)
    guard code == 0 else { throw ResolutionError(code) }
    defer { freeaddrinfo(list) }
    var addresses: [SocketAddress] = []
    var next = list
    while let entry = next {
      if let address = SocketAddress(entry.pointee) { addresses.append(address) }
      next = entry.pointee.ai_next
    }
    guard !addresses.isEmpty else { throw ResolutionError(EAI_NONAME) }
    return addresses
  }
}

/// A host name that could not be looked up.
public struct ResolutionError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The resolver's own code (`EAI_…`).
  public let code: Int32
  /// The error number behind `EAI_SYSTEM`, else 0.
  public let errno: Int32

  init(_ code: Int32) {
    errno = code == EAI_SYSTEM ? Glibc.errno : 0
    self.code = code
  }

  public var description: String {
    errno == 0
      ? "getaddrinfo: \(String(cString: gai_strerror(code)))"
      : "getaddrinfo: \(SystemError(errno: errno, call: .read).text)"
  }
}
