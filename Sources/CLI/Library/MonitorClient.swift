import CSwitchover

/// The library's QMP client of one monitor.
final class MonitorClient {
  private let handle: OpaquePointer
  private let loop: Loop
  private let timeoutMilliseconds: Int32

  /// Connects and negotiates; the timeout holds for every command too.
  init(_ address: String, timeoutMilliseconds: Int32, in loop: Loop) throws {
    var client: OpaquePointer?
    try LibraryError.check(
      swo_qmp_connect(loop.handle, address, 0, timeoutMilliseconds, &client))
    guard let client else { throw LibraryError(code: swo_code.SWO_E_INTERNAL.rawValue, text: "") }
    handle = client
    self.loop = loop
    self.timeoutMilliseconds = timeoutMilliseconds
  }

  deinit {
    swo_qmp_free(handle)
  }

  /// Executes a command and returns its value as JSON text.
  func execute(_ command: MonitorCommand) throws -> String {
    var reply: UnsafePointer<CChar>?
    let result =
      if let arguments = command.arguments {
        swo_qmp_execute(handle, command.name, arguments, timeoutMilliseconds, &reply)
      } else {
        swo_qmp_execute(handle, command.name, nil, timeoutMilliseconds, &reply)
      }
    try LibraryError.check(result)
    return libraryText(reply)
  }

  /// QEMU's version as greeted, such as "7.2.0".
  var version: String {
    let version = swo_qmp_version(handle)
    return "\(version >> 16).\(version >> 8 & 0xff).\(version & 0xff)"
  }
}

/// One QMP command.
struct MonitorCommand: Equatable {
  var name: String
  /// A JSON object, or nil.
  var arguments: String?
}
