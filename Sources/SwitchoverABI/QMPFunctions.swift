// The names are those of the header.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import CSwitchover
import MigrationEngine
import MigrationSession
import QMP
import Runtime

/// The longest time that a monitor may be given to connect and greet, milliseconds.
private let connectLimit: Int32 = 600_000

/// The longest JSON text of a command's arguments, bytes.
private let argumentsLimit = 16 << 20

@c @implementation
public func swo_qmp_open(
  _ loop: OpaquePointer?, _ address: UnsafePointer<CChar>?, _ oob: Int32, _ timeout_ms: Int32,
  _ qmp_out: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  answer("swo_qmp_open") { () throws(CallFailure) in
    guard let qmp_out else { throw .invalid("qmp_out is NULL") }
    qmp_out.pointee = nil
    let made = try open(loop, address, oob, timeout_ms, announces: true)
    qmp_out.pointee = handle(owning: made)
    return 0
  }
}

@c @implementation
public func swo_qmp_connect(
  _ loop: OpaquePointer?, _ address: UnsafePointer<CChar>?, _ oob: Int32, _ timeout_ms: Int32,
  _ qmp_out: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  answer("swo_qmp_connect") { () throws(CallFailure) in
    guard let qmp_out else { throw .invalid("qmp_out is NULL") }
    qmp_out.pointee = nil
    let made = try open(loop, address, oob, timeout_ms, announces: false)
    let client = made.client
    let usable = try usableLoop(loop)
    // The client's own deadline ends the wait.
    _ = try onLoop { () throws(LoopError) in
      try usable.run(forMilliseconds: -1) { client.isReady || client.end != nil }
    }
    if let end = client.end { throw end.failure }
    client.announceEverything()
    qmp_out.pointee = handle(owning: made)
    return 0
  }
}

@c @implementation
public func swo_qmp_free(_ qmp: OpaquePointer?) { release(qmp, QMPHandle.self) }

@c @implementation
public func swo_qmp_submit(
  _ qmp: OpaquePointer?, _ command: UnsafePointer<CChar>?,
  _ arguments_json: UnsafePointer<CChar>?, _ oob: Int32, _ timeout_ms: Int32,
  _ id_out: UnsafeMutablePointer<UInt64>?
) -> Int32 {
  answer("swo_qmp_submit") { () throws(CallFailure) in
    let handle = try usableClient(qmp)
    guard let id_out else { throw .invalid("id_out is NULL") }
    let name = try commandName(command)
    let arguments = try arguments(arguments_json)
    let outOfBand = try flag(oob, "oob")
    let limit = try limit(timeout_ms)
    id_out.pointee = try onClient(handle.client) { () throws(SubmitError) in
      try handle.client.submit(name, arguments: arguments, outOfBand: outOfBand, within: limit)
    }
    return 0
  }
}

@c @implementation
public func swo_qmp_execute(
  _ qmp: OpaquePointer?, _ command: UnsafePointer<CChar>?,
  _ arguments_json: UnsafePointer<CChar>?, _ timeout_ms: Int32,
  _ reply_out: UnsafeMutablePointer<UnsafePointer<CChar>?>?
) -> Int32 {
  answer("swo_qmp_execute") { () throws(CallFailure) in
    reply_out?.pointee = constant("")
    let handle = try usableClient(qmp)
    let name = try commandName(command)
    let arguments = try arguments(arguments_json)
    return try wait(handle, name, arguments, timeout_ms, passing: nil, reply_out)
  }
}

@c @implementation
public func swo_qmp_pass_fd(
  _ qmp: OpaquePointer?, _ name: UnsafePointer<CChar>?, _ fd: Int32, _ timeout_ms: Int32
) -> Int32 {
  answer("swo_qmp_pass_fd") { () throws(CallFailure) in
    let handle = try usableClient(qmp)
    let name = try text(name, "name")
    guard fd >= 0 else { throw .invalid("fd \(fd) is no descriptor") }
    return try wait(
      handle, "getfd", ["fdname": .string(name)], timeout_ms, passing: fd, nil)
  }
}

@c @implementation
public func swo_qmp_version(_ qmp: OpaquePointer?) -> UInt32 {
  guard let handle = try? usableClient(qmp), let version = handle.client.version else { return 0 }
  return UInt32(UInt8(clamping: version.major)) << 16
    | UInt32(UInt8(clamping: version.minor)) << 8 | UInt32(UInt8(clamping: version.micro))
}

// MARK: - Private

private func usableClient(_ handle: OpaquePointer?) throws(CallFailure) -> QMPHandle {
  let handle = try object(handle, QMPHandle.self)
  _ = try handle.loop()
  return handle
}

private func open(
  _ loop: OpaquePointer?, _ address: UnsafePointer<CChar>?, _ oob: Int32, _ timeout: Int32,
  announces: Bool
) throws(CallFailure) -> QMPHandle {
  let loop = try usableLoop(loop)
  let endpoint = try endpoint(address, "address")
  let outOfBand = try flag(oob, "oob")
  guard (1...connectLimit).contains(timeout) else {
    throw .invalid("timeout_ms \(timeout) is not in 1…\(connectLimit)")
  }
  do throws(RouteError) {
    let client = try QMPClient(
      in: loop, endpoint: endpoint, wantsOutOfBand: outOfBand,
      within: .milliseconds(Int64(timeout)), announces: announces)
    return QMPHandle(client, in: loop)
  } catch {
    let failure = CallFailure(error)
    throw CallFailure(failure.code, "the monitor at \(endpoint) cannot be reached: \(failure.text)")
  }
}

private func wait(
  _ handle: QMPHandle, _ command: String, _ arguments: JSONObject?, _ timeout: Int32,
  passing passed: Int32?, _ reply_out: UnsafeMutablePointer<UnsafePointer<CChar>?>?
) throws(CallFailure) -> Int32 {
  let limit = try limit(timeout)
  let reply = try onClient(handle.client) { () throws(SubmitError) in
    try handle.client.execute(command, arguments: arguments, within: limit, passing: passed)
  }
  guard let reply else {
    throw CallFailure(
      .SWO_E_INTERRUPTED, "a signal arrived while waiting for '\(command)': its outcome is unknown")
  }
  switch reply.outcome {
  case .returned(let json):
    reply_out?.pointee = handle.reply.pointer(to: json)
    return 0
  case .failed(let error, let json):
    reply_out?.pointee = handle.reply.pointer(to: json)
    throw CallFailure(.SWO_E_QMP, "QEMU refused '\(command)': \(error.text)")
  case .timedOut:
    throw CallFailure(
      .SWO_E_TIMEOUT, "no answer to '\(command)' within \(timeout) ms: its outcome is unknown")
  case .lost:
    throw CallFailure(
      .SWO_E_LOST, "the connection ended before '\(command)' was answered: its outcome is unknown")
  }
}

private func onClient<Value>(
  _ client: QMPClient, _ body: () throws(SubmitError) -> Value
) throws(CallFailure) -> Value {
  do throws(SubmitError) {
    return try body()
  } catch {
    switch error {
    case .notReady: throw .state("the client is not connected yet")
    case .closed:
      throw CallFailure(.SWO_E_CLOSED, client.end?.failure.text ?? "the client is closed")
    case .forked: throw .forked
    case .outOfBandUnavailable: throw .state("this monitor runs nothing out of band")
    case .limit: throw CallFailure(.SWO_E_LIMIT, "too many commands wait for their answers")
    case .system(let error): throw CallFailure(error)
    }
  }
}

private func commandName(_ pointer: UnsafePointer<CChar>?) throws(CallFailure) -> String {
  let name = try text(pointer, "command")
  guard !name.isEmpty else { throw .invalid("command is empty") }
  return name
}

private func arguments(_ pointer: UnsafePointer<CChar>?) throws(CallFailure) -> JSONObject? {
  guard pointer != nil else { return nil }
  let json = try text(pointer, "arguments_json", limit: argumentsLimit)
  guard let object = try jsonValue(json, "arguments_json").object else {
    throw .invalid("arguments_json is no JSON object")
  }
  return object
}

private func limit(_ milliseconds: Int32) throws(CallFailure) -> Span {
  guard milliseconds > 0 else { throw .invalid("timeout_ms \(milliseconds) is not positive") }
  return .milliseconds(Int64(milliseconds))
}

/// A flag that must be 0 or 1.
func flag(_ value: Int32, _ name: StaticString) throws(CallFailure) -> Bool {
  guard value == 0 || value == 1 else { throw .invalid("\(name) \(value) is neither 0 nor 1") }
  return value == 1
}
