//! Counts in a JSON object, member by member, never whole in memory.

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, MapAccess, Visitor},
};
use std::fmt;

/// An object of words with counts; at the top, of namespaces with such objects too.
pub(super) struct CountsSeed<'a> {
    pub(super) namespace: &'a str,
    pub(super) give: &'a mut dyn FnMut(&str, String, i64) -> bool,
    pub(super) is_top: bool,
}

impl<'de> DeserializeSeed<'de> for CountsSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for CountsSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of words with whole numbers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<String>()? {
            let value =
                ValueSeed { name: &name, namespace: self.namespace, give: &mut *self.give, is_top: self.is_top };
            members.next_value_seed(value)?;
        }
        Ok(())
    }
}

/// The value of one member.
struct ValueSeed<'a> {
    name: &'a str,
    namespace: &'a str,
    give: &'a mut dyn FnMut(&str, String, i64) -> bool,
    is_top: bool,
}

impl ValueSeed<'_> {
    fn count<E: Error>(self, count: i64) -> Result<(), E> {
        match (self.give)(self.namespace, self.name.to_owned(), count) {
            true => Ok(()),
            false => Err(E::custom("stopped")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number of 64 bits as the count of {:?}", self.name)
    }

    fn visit_i64<E: Error>(self, count: i64) -> Result<(), E> {
        self.count(count)
    }

    fn visit_u64<E: Error>(self, count: u64) -> Result<(), E> {
        let count =
            count.try_into().map_err(|_| E::custom(format_args!("the count of {:?} is too large", self.name)))?;
        self.count(count)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<(), A::Error> {
        if !self.is_top {
            return Err(A::Error::custom(format_args!("{:?} is an object, not a count", self.name)));
        }
        CountsSeed { namespace: self.name, give: self.give, is_top: false }.visit_map(members)
    }
}
