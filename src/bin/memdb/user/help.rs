//! The examples of `memdb user`.

pub const USER: &str = "\
EXAMPLES
  memdb user add ann --role read --role write:titles-
  memdb user token ann --name ci --expires-days 90 > ci.token
  memdb leader --users users.json
  memdb top --token-file ci.token

The file holds hashes alone. Every node of a cluster gets a copy of it, and reads it anew within two seconds of a change.

Exits 0, 1 if the file cannot be read or changed, 2 on wrong usage.";

pub const ADD: &str = "\
EXAMPLES
  memdb user add ann --role read
  memdb user add counter --role write:titles-,notes --no-password
  memdb user add root --role admin --password-file - < root.password

The password is asked for, or read from a file or from MEMDB_NEW_PASSWORD; never from the command line, which others can see.

Exits 0, 1 if the user is there already or the file cannot be changed, 2 on wrong usage.";

pub const LIST: &str = "\
EXAMPLES
  memdb user list
  memdb user list --users /etc/memdb/users.json --json

Exits 0, 1 if the file cannot be read, 2 on wrong usage.";

pub const REMOVE: &str = "\
EXAMPLES
  memdb user remove ann

Exits 0, 1 if there is no such user, 2 on wrong usage.";

pub const PASSWD: &str = "\
EXAMPLES
  memdb user passwd ann
  memdb user passwd ann --password-file ann.password

Exits 0, 1 if there is no such user, 2 on wrong usage.";

pub const ROLES: &str = "\
EXAMPLES
  memdb user roles ann --role read --role write:titles-

Exits 0, 1 if there is no such user, 2 on wrong usage.";

pub const TOKEN: &str = "\
EXAMPLES
  memdb user token ann --name ci > ci.token
  memdb user token ann --name ci-2 --expires-days 90 > ci-2.token
  memdb user token ann --remove ci

The token goes to standard output, once: the file has its hash alone.

Exits 0, 1 if there is no such user or token, 2 on wrong usage.";
