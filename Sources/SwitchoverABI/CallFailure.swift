import CSwitchover
import MigrationSession
import Runtime

/// Why a call of the C interface did not do what it was asked.
struct CallFailure: Error {
  let code: swo_code
  let text: String

  init(_ code: swo_code, _ text: String) {
    self.code = code
    self.text = text
  }

  static let forked = CallFailure(
    .SWO_E_FORKED, "this process is a fork of the one that made the handle: it may only free it")
  static let closed = CallFailure(.SWO_E_CLOSED, "the handle's loop is gone")

  static func invalid(_ text: String) -> CallFailure { CallFailure(.SWO_E_INVALID, text) }
  static func state(_ text: String) -> CallFailure { CallFailure(.SWO_E_STATE, text) }

  init(_ error: SystemError) { self.init(.SWO_E_SYSTEM, error.description) }

  init(_ error: LoopError) {
    switch error {
    case .interrupted: self.init(.SWO_E_INTERRUPTED, "a signal arrived while waiting")
    case .forked: self = .forked
    case .closed: self = .closed
    case .system(let error): self.init(error)
    }
  }

  init(_ error: RouteError) {
    switch error {
    case .unresolved: self.init(.SWO_E_CONNECT, error.description)
    case .unusable(let error): self.init(error)
    case .tunnel: self.init(.SWO_E_CONNECT, error.description)
    }
  }

  init(_ error: MigrationSetupError) {
    switch error {
    case .route(_, let cause): self.init(CallFailure(cause).code, error.description)
    case .sourceElsewhere: self = .invalid(error.description)
    case .journal(.held): self.init(.SWO_E_BUSY, error.description)
    case .journal: self.init(.SWO_E_SYSTEM, error.description)
    case .notAJournal: self.init(.SWO_E_PROTOCOL, error.description)
    case .unsettledJournal: self.init(.SWO_E_STATE, error.description)
    }
  }
}

/// The one way out of every function that answers with a number: the failure's text is kept for
/// `swo_last_error`, and its code is the answer.
func answer(_ function: StaticString, _ body: () throws(CallFailure) -> Int32) -> Int32 {
  do throws(CallFailure) {
    return try body()
  } catch {
    ErrorText.set("\(function): \(error.text)")
    return error.code.rawValue
  }
}

/// The same for functions that answer with a text: after a failure that is "".
func textAnswer(
  _ function: StaticString, _ body: () throws(CallFailure) -> UnsafePointer<CChar>
) -> UnsafePointer<CChar> {
  do throws(CallFailure) {
    return try body()
  } catch {
    ErrorText.set("\(function): \(error.text)")
    return constant("")
  }
}

/// Runs what a loop may refuse.
func onLoop<Value>(
  _ body: () throws(LoopError) -> Value
) throws(CallFailure) -> Value {
  do throws(LoopError) {
    return try body()
  } catch {
    throw CallFailure(error)
  }
}

/// The endpoint that an address names.
func endpoint(_ pointer: UnsafePointer<CChar>?, _ name: StaticString) throws(CallFailure)
  -> Endpoint
{
  let address = try text(pointer, name)
  do throws(AddressError) {
    return try Endpoint(address: address)
  } catch {
    throw .invalid(error.description)
  }
}
