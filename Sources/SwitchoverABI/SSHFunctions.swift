// The names are those of the header.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import CSwitchover
import MigrationEngine
import Runtime

/// How long a step of a login may take, milliseconds.
private let loginLimits: ClosedRange<UInt32> = 100...600_000

private let argumentLimit = 128

@c @implementation
public func swo_loop_set_ssh(
  _ loop: OpaquePointer?, _ carrier: Int32,
  _ command: UnsafePointer<UnsafePointer<CChar>?>?, _ login_ms: UInt32
) -> Int32 {
  answer("swo_loop_set_ssh") { () throws(CallFailure) in
    let loop = try usableLoop(loop)
    var options = SSHOptions()
    switch swo_ssh_carrier(rawValue: UInt32(bitPattern: carrier)) {
    case .SWO_SSH_AUTO: options.carrier = .automatic
    case .SWO_SSH_LIBSSH2: options.carrier = .libssh2
    case .SWO_SSH_SYSTEM: options.carrier = .system
    default: throw .invalid("carrier \(carrier) is no swo_ssh_carrier")
    }
    if let command { options.command = try arguments(command) }
    if login_ms != 0 {
      guard loginLimits.contains(login_ms) else {
        throw .invalid("login_ms \(login_ms) is not in 100…\(loginLimits.upperBound)")
      }
      options.loginLimit = .milliseconds(Int64(login_ms))
    }
    loop.ssh = options
    return 0
  }
}

private func arguments(
  _ list: UnsafePointer<UnsafePointer<CChar>?>
) throws(CallFailure) -> [String] {
  var result: [String] = []
  while let next = list[result.count] {
    guard result.count < argumentLimit else {
      throw CallFailure(.SWO_E_LIMIT, "command has more than \(argumentLimit) arguments")
    }
    result.append(try text(next, "an argument of command"))
  }
  guard let program = result.first, !program.isEmpty else { throw .invalid("command is empty") }
  return result
}
