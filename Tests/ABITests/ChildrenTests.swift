import QEMUHarness
import Testing

/// A tunnel's ssh is a child of somebody else's process, who may have views of his own on children.
@Suite("Children", .serialized)
struct ChildrenTests {
  @Test(
    "a migration by ssh ends well, with nothing left, in a program that",
    arguments: ["ignores", "collects", "forks"], Carrier.allCases)
  func children(way: String, carrier: Carrier) throws {
    let pair = try QEMUPair()
    let server = try SSHServer()
    let program = try BuiltLibrary.compile(
      "children", of: BuiltLibrary.programs, in: pair.directory)
    var addresses = pair.addresses
    addresses[1] = server.address(addresses[1])
    try Command(
      [program, way] + addresses + ["\(carrier.rawValue)"] + server.command(), in: pair.directory
    ).expectSuccess()
    try pair.expectGuestMoved()
  }
}

/// As `swo_ssh_carrier` has them.
enum Carrier: Int, CaseIterable {
  case automatic = 1
  case libssh2 = 2
  case system = 3
}
